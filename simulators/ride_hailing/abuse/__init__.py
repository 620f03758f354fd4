"""Ten ways to cheat; each file stages one, with people who are honest most of the time."""
