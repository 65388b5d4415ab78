"""The bridge: what the plant says, kept on disk until the other side has it, and sent there."""
