"""What the machine says: cores, speed, processes, devices and their memory."""
