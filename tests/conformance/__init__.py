"""Cases answered by Cilium's own policy engine, and the comparison of ours with them."""
