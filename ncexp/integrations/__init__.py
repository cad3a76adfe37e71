"""Other people's training frameworks; each module is imported only by who uses that framework."""
