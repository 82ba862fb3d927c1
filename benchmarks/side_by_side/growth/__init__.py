"""What a trial costs beyond its measuring, as a study grows."""
