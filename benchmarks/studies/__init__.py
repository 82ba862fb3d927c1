"""What finished studies are worth: their first trials, their reruns, their settings in `fit`."""
