import Glibc
import LossdKernels
import LossdPluginKit
import LossdTensor

/// -sum over the classes i of y[i] w[i] log(p[i]) with p = softmax(x): of the target w is (1 - p)^gamma_pos and y
/// 1 - eps + eps / C, of any other class p^gamma_neg and eps / C. Ridnik and others (2021), "Asymmetric Loss For
/// Multi-Label Classification"; ASLSingleLabel of their code, timm's AsymmetricLossSingleLabel (whose default gamma_pos
/// is 1). The gradient goes through the weights too, as it does there.
struct AsymmetricLossSingleLabel: RowLoss {
  static let name = "asymmetric_loss_single_label"
  static let summary = "cross entropy of smoothed targets, each class by how wrong it is"
  static let inputHelp = "logits, (C) or (N, C)"
  static let elementCost = 6.0
  static var attributes: [AttributeDeclaration] {
    [
      .number("gamma_neg", 4, minimum: 0, help: "how much less certain other classes count"),
      .number("gamma_pos", 0, minimum: 0, help: "how much less a certain target counts"),
      .number(
        "eps", 0.1, minimum: 0, maximum: 1, help: "share of the target given to all classes alike"),
    ]
  }

  private let ofOthers: Double
  private let ofTarget: Double
  private let smoothing: Double

  init(_ attributes: Attributes) {
    ofOthers = attributes.float(1)
    ofTarget = attributes.float(2)
    smoothing = attributes.float(3)
  }

  func evaluate(_ row: RowWork) throws(StatusError) -> Double {
    let label = try row.label()
    var state = RowState(max: -.infinity, rest: 0)
    try row.eachBlock { first, count throws(StatusError) in
      row.load(first, count)
      let part = Double.state(row.x, count)
      if row.isOneBlock { state = part } else { state.add(part) }
    }
    if !state.max.isFinite { state.rest = .nan }
    let share = smoothing / Double(row.classes)
    let logarithm = state.logProbability(row.element(label))
    let own = target(logarithm, 1 - smoothing + share)
    // Slopes of the other classes' terms.
    var (losses, slopes) = (CompensatedSum(), CompensatedSum())
    losses.add(own.value)
    if share > 0 {
      try row.eachBlock { first, count throws(StatusError) in
        if !row.isOneBlock { row.load(first, count) }
        let sums = others(row, first, count, state, share, label)
        losses.add(sums.loss)
        slopes.add(sums.slope)
      }
    }
    guard row.gradient != nil else { return losses.value }
    try row.eachBlock { first, count throws(StatusError) in
      if !row.isOneBlock || share == 0 { logarithms(row, first, count, state) }
      if share > 0 {
        if !row.isOneBlock { _ = termsOfLoaded(row, first, count, share, label) }
      } else {
        row.z.update(repeating: 0, count: count)
      }
      // The slope of each term, less what all give to each logit.
      if label >= first && label < first + count { row.z[label - first] = own.slope }
      writeExponentials(row.x, row.y, count)
      let (all, factor) = (slopes.value + own.slope, row.scale)
      for index in 0..<count { row.y[index] = factor * (row.z[index] - row.y[index] * all) }
      if label >= first && label < first + count {
        // The target's own part is times 1 - p, which would cancel.
        row.y[label - first] =
          factor * (-expm1(logarithm) * own.slope - exp(logarithm) * slopes.value)
      }
      row.store(first, count)
    }
    return losses.value
  }

  /// The target's term, and its derivative by log p.
  private func target(_ l: Double, _ y: Double) -> (value: Double, slope: Double) {
    let rest = -expm1(l)
    let weight = ofTarget == 0 ? 1 : pow(rest, ofTarget)
    let p = exp(l)
    // p l / (1 - p), which goes to -1 at a certain target.
    let share = p == 0 ? 0 : rest == 0 ? -1 : p * l / rest
    let value = weight == 0 ? 0 * l : -y * weight * l
    return (value, -y * weight * (1 - ofTarget * share))
  }

  /// Makes `x` the logarithms of the probabilities.
  private func logarithms(_ row: RowWork, _ first: Int, _ count: Int, _ state: RowState) {
    row.load(first, count)
    logarithmsOfLoaded(row, count, state)
  }

  private func logarithmsOfLoaded(_ row: RowWork, _ count: Int, _ state: RowState) {
    let (max, logSum) = (state.max, state.logSum)
    for index in 0..<count { row.x[index] = row.x[index] - max - logSum }
  }

  private func others(
    _ row: RowWork, _ first: Int, _ count: Int, _ state: RowState, _ share: Double, _ label: Int
  ) -> (loss: Double, slope: Double) {
    logarithmsOfLoaded(row, count, state)
    return termsOfLoaded(row, first, count, share, label)
  }

  /// The terms of the other classes of a block whose logarithms are in `x`: their sum, and that of their slopes, which
  /// are in `z`.
  private func termsOfLoaded(
    _ row: RowWork, _ first: Int, _ count: Int, _ share: Double, _ label: Int
  ) -> (loss: Double, slope: Double) {
    let (x, y, z) = (row.x, row.y, row.z)
    let gamma = ofOthers
    if gamma == 0 {
      z.update(repeating: 1, count: count)
    } else {
      for index in 0..<count { y[index] = gamma * x[index] }
      writeExponentials(y, z, count)
    }
    var (loss, slope) = (0.0, 0.0)
    let own = label - first
    for index in 0..<count {
      let weight = z[index]
      // What has no weight has no term, not even where its logarithm is infinite.
      let isNothing = weight == 0 || index == own
      let l = isNothing ? 0 : x[index]
      let s = isNothing ? 0 : -share * weight * (1 + (gamma == 0 ? 0 : gamma * l))
      loss -= share * weight * l
      slope += s
      z[index] = s
    }
    return (loss, slope)
  }
}
