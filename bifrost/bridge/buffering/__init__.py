"""What waits for a destination: the journal on the disk, and the thread that makes it durable."""
