import LossdTensor
import LossdWire

/// How the Summary of a data set follows from the Summaries of its parts, which several daemons
/// evaluated: by what the function declares (ListFunctions), never by the function's name.
///
/// A function that declares a reduction has the sums loss_sum and weight_sum, which add up, and its
/// value is loss_sum, or loss_sum over weight_sum for a mean. Of other functions nothing is known:
/// a plugin may merge its sums in a way of its own. Their total has counts alone, since no number
/// is better than a wrong one.
struct SummaryRule: Sendable {
  enum Reduction: Sendable {
    case sum, mean
    /// The function declares one, and there is no value of the whole data set.
    case other
  }

  /// The names of the sums that a declared reduction has.
  private static let lossSum = "loss_sum"
  private static let weightSum = "weight_sum"

  /// nil: the function declares none.
  let reduction: Reduction?

  init(_ description: FunctionDescription?, _ attributes: [String: AttributeValue]) {
    guard let declared = description?.attributes.first(where: { $0.role == "reduction" }) else {
      reduction = nil
      return
    }
    switch attributes[declared.name] ?? declared.defaultValue {
    case .string("sum"): reduction = .sum
    case .string("mean"): reduction = .mean
    default: reduction = .other
    }
  }

  /// Both parts together, without a value unless one of them is of no batch: `value` gives the last
  /// total its own.
  func added(_ first: SummaryMessage, _ second: SummaryMessage) -> SummaryMessage {
    if first.batches == 0 { return second }
    if second.batches == 0 { return first }
    var total = SummaryMessage(
      batches: SummaryRule.sum(first.batches, second.batches),
      rows: SummaryRule.sum(first.rows, second.rows))
    guard reduction != nil else { return total }
    for name in [SummaryRule.lossSum, SummaryRule.weightSum] {
      let parts = [first.state[name], second.state[name]].compactMap { $0 }
      if !parts.isEmpty { total.state[name] = parts.reduce(0, +) }
    }
    return total
  }

  /// Saturated: the numbers are what a daemon says.
  static func sum(_ first: UInt64, _ second: UInt64) -> UInt64 {
    let (sum, overflow) = first.addingReportingOverflow(second)
    return overflow ? .max : sum
  }

  /// Whether all that `part` says follows from its counts and sums, so that nothing is lost where
  /// the sums of several are added.
  func describes(_ part: SummaryMessage) -> Bool {
    if reduction == nil { return part.values.isEmpty && part.state.isEmpty }
    let names = [SummaryRule.lossSum, SummaryRule.weightSum]
    if reduction == .sum || reduction == .mean, part.values.count != 1 { return false }
    guard part.state.keys.allSatisfy(names.contains) else { return false }
    let ours = value(
      SummaryMessage(batches: part.batches, rows: part.rows, state: part.state), last: part)
    return ours.values.count == part.values.count
      && part.values.allSatisfy { name, value in
        guard let own = ours.values[name] else { return false }
        // A function may divide in another order.
        return own == value || (own.isNaN && value.isNaN)
          || abs(own - value) <= 1e-9 * max(abs(own), abs(value))
      }
  }

  /// `total` with the value of the whole data set, where `last`, the last part, has one of its own.
  func value(_ total: SummaryMessage, last: SummaryMessage) -> SummaryMessage {
    var total = total
    guard last.values.count == 1, let name = last.values.keys.first,
      let sum = total.state[SummaryRule.lossSum]
    else { return total }
    switch reduction {
    case .sum: total.values[name] = sum
    case .mean:
      if let weight = total.state[SummaryRule.weightSum] { total.values[name] = sum / weight }
    case .other, nil: break
    }
    return total
  }
}
