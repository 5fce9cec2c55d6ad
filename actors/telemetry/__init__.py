"""What all processes say of themselves: counts, memory, and what they are told in answer."""
