"""The saved model: data alone, checked before any of it is used."""
