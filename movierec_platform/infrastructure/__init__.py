"""What must exist on AWS, or on an emulator of it, before the platform runs."""
