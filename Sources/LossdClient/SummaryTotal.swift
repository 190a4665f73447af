import LossdTensor
import LossdWire

/// What batches come to that were calls of their own, one Summary each: what one stream of all of
/// them would have said. The sums are added with compensation, as a daemon does.
public struct SummaryTotal: Sendable {
  private let rule: SummaryRule
  private var batches: UInt64 = 0
  private var rows: UInt64 = 0
  private var sums: [String: (sum: Double, rest: Double)] = [:]
  private var last = SummaryMessage(batches: 0, rows: 0)

  /// - Parameter description: what the daemon says of the function; nil: nothing.
  public init(_ description: FunctionDescription?, _ attributes: [String: AttributeValue]) {
    rule = SummaryRule(description, attributes)
  }

  /// Adds a batch's Summary. False where the function declares no sums that say all of it: then
  /// nothing has been added, and no total of several calls is that of one stream.
  public mutating func add(_ part: SummaryMessage) -> Bool {
    guard rule.describes(part) else { return false }
    batches = SummaryRule.sum(batches, part.batches)
    rows = SummaryRule.sum(rows, part.rows)
    for (name, value) in part.state {
      let old = sums[name] ?? (0, 0)
      let new = old.sum + value
      // Knuth's TwoSum: what the addition has rounded away. Of an infinity it is NaN, and none.
      let virtual = new - old.sum
      let error = (old.sum - (new - virtual)) + (value - virtual)
      sums[name] = (new, old.rest + (error.isFinite ? error : 0))
    }
    last = part
    return true
  }

  /// All that has been added.
  public var summary: SummaryMessage {
    rule.value(
      SummaryMessage(batches: batches, rows: rows, state: sums.mapValues { $0.sum + $0.rest }),
      last: last)
  }
}
