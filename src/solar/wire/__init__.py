"""What agents and coordinators say to each other. Pure: bytes in, facts out, and back again."""
