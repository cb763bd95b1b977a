"""What an audit of training data found: verdict, groups of rows, and the files that hold them."""
