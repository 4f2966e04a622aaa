"""Files of labelled texts on this machine: read them, check them, split them."""
