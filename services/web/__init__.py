"""The care-team page: who has which alert, and the one tap that says "I have it"."""
