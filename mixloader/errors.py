"""What mixloader raises and warns: one line that says what was wrong, the value, where, and what to do."""


class MixloaderError(ValueError):
    """Something that was handed to mixloader cannot be used. The message is for the person who handed it."""


class ShardError(MixloaderError):
    """A shard, index or manifest cannot be read. The message names the shard, the member and the offset."""


class UndecodableError(MixloaderError):
    """A sample's bytes are no image that can be drawn. The message is the decoder's reason, in one line."""


class FailureBudgetError(MixloaderError):
    """More samples failed than a run may lose. The message names the first of them and their reasons."""


class MixloaderWarning(UserWarning):
    """Something was left out or done another way, and the run goes on."""
