"""A simulated IoT testbed and traffic emulator."""
