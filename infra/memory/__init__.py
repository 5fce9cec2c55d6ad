"""How much memory there is, who holds it, and how it is given back."""
