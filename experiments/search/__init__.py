"""What is worth trying: what limits a pipeline, the axes that may help, a first guess of each."""
