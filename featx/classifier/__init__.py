"""From images to labels: the classifier, its predictions, its file and its exports."""
