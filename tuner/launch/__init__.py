"""How the processes of the ranks come to be. Imports nothing: a nursery sets its environment before numpy is loaded."""
