// LossdClient: talks to a lossd daemon from Swift, with async and await. It knows sockets, frames
// and tensors, and nothing of how a daemon works inside.
import LossdTensor
import LossdWire

/// What one evaluation returned.
public struct Evaluated: Sendable {
  /// The request's.
  public var id: UInt64
  /// In the order of the request.
  public var outputs: [(name: String, tensor: Tensor)]

  /// For who has read results in `SharedMemory`: UNAVAILABLE where some were lost before, with the
  /// connection that it was of.
  public func checkIntact() throws(StatusError) { try outputs.checkIntact() }

  public subscript(name: String) -> Tensor? { outputs.first { $0.name == name }?.tensor }
}

/// What to evaluate, but for its tensors.
public struct EvaluationOptions: Sendable {
  public var attributes: [String: AttributeValue]
  /// Names of the results wanted; empty: the function's result alone.
  public var outputs: [String]
  /// Seconds for the whole call; nil: no limit.
  public var timeout: Double?

  public init(
    attributes: [String: AttributeValue] = [:], outputs: [String] = [], timeout: Double? = nil
  ) {
    self.attributes = attributes
    self.outputs = outputs
    self.timeout = timeout
  }

  var timeoutMicroseconds: UInt64 {
    guard let timeout, timeout > 0 else { return timeout == nil ? 0 : 1 }
    return UInt64(min(timeout * 1e6, 1e15).rounded(.up))
  }
}

/// The call never reached a function and may be tried on another connection.
struct NeverBegan: Error {}
