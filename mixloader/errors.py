"""What mixloader raises and warns: one line that says what was wrong, the value, where, and what to do."""


class MixloaderError(ValueError):
    """Something that was handed to mixloader cannot be used. The message is for the person who handed it."""


class ShardError(MixloaderError):
    """A shard, index or manifest cannot be read. The message names the shard, the member and the offset."""


class MixloaderWarning(UserWarning):
    """Something was left out or done another way, and the run goes on."""
