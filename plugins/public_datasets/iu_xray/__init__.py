"""Indiana University chest X-rays: reports with both views."""
