/// Where tensors and attributes stand in the declarations of losses over classes, one order for all of them.
enum ClassPlaces {
  static let (input, target, upstream, weight) = (0, 1, 2, 3)
  static let (loss, gradient) = (0, 1)
  /// The target's gradient: cross_entropy's, and multilabel_soft_margin_loss's.
  static let (gradientOfProbabilities, gradientOfLabels) = (3, 2)
  /// Behind `reduction`.
  static let (ignoreIndex, smoothing) = (1, 2)
  /// The first of a loss's own attributes.
  static let ownAttribute = 2
}

/// Where the attributes of softmax, log_softmax and softmin stand.
enum SoftmaxPlaces { static let (dim, dtype) = (0, 1) }

/// Where the tensors of an activation of one input stand.
enum ActivationPlaces {
  static let (input, upstream) = (0, 1)
  static let (output, gradient) = (0, 1)
}

/// Where the sums of a loss stand: `LossReduction.accumulators`.
enum Sums {
  static let (losses, weights) = (0, 1)
}
