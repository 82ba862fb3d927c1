"""Does a measurement come out again? Reruns of logged runs, and a configuration against itself."""
