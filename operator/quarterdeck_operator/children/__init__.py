"""What a deployment owns in the cluster: pure builders, one file per sort of object; `everything` calls them all."""
