import CLossdProto
import LossdTensor

/// What an evaluation returned: a view, valid until its arena is reset.
public struct EvaluateResponseMessage {
  let raw: UnsafePointer<Lossd__V1__EvaluateResponse>

  /// INVALID_ARGUMENT when it does not decode.
  public init(
    decoding bytes: UnsafeRawBufferPointer, in arena: MessageArena
  ) throws(StatusError) {
    raw = UnsafePointer(try arena.decode(lossd__v1__evaluate_response__init, bytes))
  }

  /// The request's.
  public var id: UInt64 { raw.pointee.id }

  public var outputCount: Int { raw.pointee.n_outputs }

  /// `index` is below `outputCount`.
  public func output(_ index: Int) -> TensorMessage {
    precondition(index >= 0 && index < outputCount)
    return TensorMessage(raw: raw.pointee.outputs[index]!)
  }

  /// Only in the last response of a stream. Copies.
  public var summary: SummaryMessage? { raw.pointee.summary.map { SummaryMessage($0.pointee) } }
}

/// What a whole stream of batches came to.
public struct SummaryMessage: Sendable, Equatable {
  public var batches: UInt64
  public var rows: UInt64
  /// `loss`: what one call over the whole data set would have returned.
  public var values: [String: Double]
  /// The mergeable sums behind it: `loss_sum`, `weight_sum`.
  public var state: [String: Double]
  /// The same before rounding; nil where a plugin merges by itself.
  public var whole: StateMessage?

  public init(
    batches: UInt64, rows: UInt64, values: [String: Double] = [:], state: [String: Double] = [:],
    whole: StateMessage? = nil
  ) {
    self.batches = batches
    self.rows = rows
    self.values = values
    self.state = state
    self.whole = whole
  }

  init(_ raw: Lossd__V1__Summary) {
    batches = raw.batches
    rows = raw.rows
    values = Dictionary(
      mapList(raw.values, raw.n_values) { (textString($0.key), $0.value) },
      uniquingKeysWith: { $1 })
    state = Dictionary(
      mapList(raw.state, raw.n_state) { (textString($0.key), $0.value) },
      uniquingKeysWith: { $1 })
    whole = raw.whole.map { StateMessage($0.pointee) }
  }
}
