"""What a sweep came to, from its records alone: tables, the paper's figures, one page; runs side by side; export."""
