/// A method of a service, as calls know it: nothing that would have to be counted.
struct Method {
  /// Its place in the table of services.
  let number: Int
  /// As gRPC writes it: `/lossd.v1.Evaluator/Evaluate`.
  let path: StaticString
  /// Whether requests and responses are streams.
  let isStreaming: Bool
  /// Whether its calls evaluate. Others are answered by the loop itself, which looks at the clock
  /// after each.
  let isEvaluating: Bool
}

extension UnsafeRawBufferPointer {
  func equals(_ text: StaticString) -> Bool {
    guard count == text.utf8CodeUnitCount else { return false }
    for index in 0..<count where self[index] != text.utf8Start[index] { return false }
    return true
  }

  func hasPrefix(_ text: StaticString) -> Bool {
    count >= text.utf8CodeUnitCount
      && UnsafeRawBufferPointer(rebasing: prefix(text.utf8CodeUnitCount)).equals(text)
  }
}
