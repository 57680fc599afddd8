"""Footage in recordings of robots: MCAP files, ROS 1 bags and ROS 2 bags."""
