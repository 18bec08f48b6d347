"""What runs a file that `zoo export` wrote: images to maps, one file for each runtime, loaded when chosen."""
