"""DepthNet, PoseNet and FeatureNet."""
