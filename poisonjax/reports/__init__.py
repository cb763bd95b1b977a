"""What a run leaves behind for people: a record, a table, pictures, and what a terminal shows meanwhile."""
