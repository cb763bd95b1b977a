"""The findings of an audit of training data: verdict, groups of rows, and the files that hold them."""
