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
}

extension Evaluation.Request {
  /// Whether so many rows are what a client said: a tensor without elements may be of any length.
  func hasEmptyInput(ofSize rows: Int64) -> Bool {
    for index in 0..<entry.inputs.count
    where inputs[index].data_type != 0 && inputs[index].element_count == 0 {
      for dimension in 0..<Int(inputs[index].rank)
      where inputs[index].shape[dimension] >= rows { return true }
    }
    return false
  }
}

extension FunctionEntry {
  /// A result whose bytes cannot be counted. A tensor without elements may be of any shape, and its
  /// result of a larger type: then the request is what is wrong. Else the function is.
  func impossibleShape(
    _ output: String, _ type: DataType, _ shape: UnsafeBufferPointer<Int64>
  ) -> StatusError {
    let isNegative = shape.contains { $0 < 0 }
    guard !isNegative, !isForeign || shape.contains(0) else {
      return lie("planned an impossible shape for \(output)")
    }
    return invalid(
      "\(output) would be \(type) \(shapeText(shape)), whose dimensions other than 0 make "
        + "2^63 bytes or more")
  }

  func lie(_ text: String) -> StatusError {
    StatusError(.internal, "\(name): the plugin \(plugin) \(text)")
  }

  func invalid(_ text: String) -> StatusError {
    StatusError(.invalidArgument, "\(name): \(text)")
  }
}
