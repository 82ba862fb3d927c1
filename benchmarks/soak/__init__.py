"""Many short trials, some of which fail, and what they leave in the process that runs them."""
