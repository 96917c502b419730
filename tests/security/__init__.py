"""What API servers once did and kubelite must never do: the flaws that no other test is named after, and the list of all."""
