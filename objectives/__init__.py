"""How one configuration is measured: a fresh process, short training steps, honest windows."""
