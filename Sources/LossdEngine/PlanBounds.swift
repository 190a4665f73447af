import CLossdPlugin
import LossdTensor
import Synchronization

/// What a plan says of itself, before anything of it is believed: the same bounds for a function of
/// the program, of a library and of one elsewhere.
struct PlanBounds {
  /// More samples than any memory holds, and few enough that no sum of them overflows.
  static let rowsMax: Int64 = 1 << 48
  static let workspaceBytesMax: UInt64 = 1 << 46
  static let scratchBytesMax: UInt64 = 1 << 40
  /// A year, nanoseconds.
  static let costMax = 3.2e16

  var rows: Int64
  var workspaceBytes: UInt64
  var scratchBytes: UInt64
  /// Estimated work, nanoseconds of one core.
  var cost: Double
}

extension Evaluation {
  private static let callCostLimit = Atomic<UInt64>(3_600_000_000_000)

  /// The most work that one call may plan, nanoseconds of one core: the setting `limits.call_cost`,
  /// an hour unless it is set; 0: no limit. Any thread; a change counts for the plans made after
  /// it.
  public static var callCostMax: UInt64 {
    get { callCostLimit.load(ordering: .relaxed) }
    set { callCostLimit.store(newValue, ordering: .relaxed) }
  }

  /// Takes a plan's amounts over. INTERNAL where no honest plan has them; RESOURCE_EXHAUSTED where
  /// the call costs more than one may.
  func accept(_ plan: PlanBounds) throws(StatusError) {
    guard plan.cost.isFinite, plan.cost >= 0, plan.cost <= PlanBounds.costMax || !entry.isForeign
    else {
      throw lie("planned \(plan.cost) ns of work")
    }
    let limit = Evaluation.callCostMax
    guard limit == 0 || plan.cost <= Double(limit) else {
      throw StatusError(
        .resourceExhausted,
        "\(entry.name): the call takes about \(plan.cost) ns of one core, over the limit of "
          + "\(limit) ns "
          + "(limits.call_cost)")
    }
    guard plan.rows >= 0, plan.rows <= PlanBounds.rowsMax || hasEmptyInput(ofSize: plan.rows),
      plan.workspaceBytes <= PlanBounds.workspaceBytesMax,
      plan.scratchBytes <= PlanBounds.scratchBytesMax
    else { throw lie("planned impossible amounts of memory or rows") }
    planDone(
      rows: Int(min(plan.rows, PlanBounds.rowsMax)), workspaceBytes: Int(plan.workspaceBytes),
      scratchBytes: Int(plan.scratchBytes), cost: plan.cost)
  }

  /// Whether so many rows are what a client said: a tensor without elements may be of any length.
  private func hasEmptyInput(ofSize rows: Int64) -> Bool {
    for index in 0..<entry.inputs.count
    where inputs[index].data_type != 0 && inputs[index].element_count == 0 {
      for dimension in 0..<Int(inputs[index].rank)
      where inputs[index].shape[dimension] >= rows { return true }
    }
    return false
  }

  /// A result whose bytes cannot be counted. A tensor without elements may be of any shape, and its
  /// result of a larger type: then the request is what is wrong. Else the function is.
  func impossibleShape(
    _ name: String, _ type: DataType, _ shape: UnsafeBufferPointer<Int64>
  ) -> StatusError {
    let isNegative = shape.contains { $0 < 0 }
    guard !isNegative, !entry.isForeign || shape.contains(0) else {
      return lie("planned an impossible shape for \(name)")
    }
    return invalid(
      "\(name) would be \(type) \(shapeText(shape)), whose dimensions other than 0 make 2^63 bytes "
        + "or more"
    )
  }

  func lie(_ text: String) -> StatusError {
    StatusError(.internal, "\(entry.name): the plugin \(entry.plugin) \(text)")
  }
}
