"""What Finstage is compared with, each as small as it can be; they end when their stdin does."""
