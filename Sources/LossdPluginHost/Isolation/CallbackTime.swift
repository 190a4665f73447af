import LossdEngine
import LossdTensor

/// How long a process may have a call: limits.callback_timeout, and more where the call's plan says
/// so.
public enum CallbackTime {
  /// A call may take what its plan estimated, this often, beyond the time that any callback has,
  /// but no longer than that time `allowanceMax` times: the estimate is the plugin's own.
  private static let costFactor = 20.0
  private static let allowanceMax: UInt64 = 10

  /// Nanoseconds. Of a process only is seen that it has the call, not how far it is.
  /// - Parameter limit: limits.callback_timeout, nanoseconds.
  public static func allowed(_ limit: UInt64, _ evaluation: Evaluation) -> UInt64 {
    if !evaluation.entry.isElsewhere { return limit }
    // A setting may be a year, which is 3e16.
    let allowance = min(evaluation.plan.cost * costFactor, Double(limit * allowanceMax))
    return limit + UInt64(max(allowance, 0))
  }

  /// DEADLINE_EXCEEDED, with the limit's name and value.
  public static func exceeded(_ limit: UInt64, _ entry: FunctionEntry) -> StatusError {
    StatusError(
      .deadlineExceeded,
      "\(entry.name): a callback of the plugin \(entry.plugin) takes longer than "
        + "limits.callback_timeout, \(limit / 1_000_000) ms")
  }
}
