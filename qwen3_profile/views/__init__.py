"""Records in, text and bytes for people and their viewers out. Nothing here prints or writes."""
