"""What a study shows: pictures, tables and the HTML report."""
