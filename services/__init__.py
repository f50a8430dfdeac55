"""The processes of Pumpwatch, one package each."""
