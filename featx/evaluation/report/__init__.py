"""From results to one document, and from the document to pages, Markdown and TensorBoard."""
