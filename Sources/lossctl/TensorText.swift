import LossdTensor

extension Tensor {
  /// Elements printed at most before the rest is counted.
  private static let shownMax = 20

  /// A scalar as a number, others as type, shape and their first elements.
  func text(savedTo file: String?) -> String {
    if let file { return "\(dataType) \(shapeText(shape.map { Int64($0) })), written to \(file)" }
    if shape.isEmpty { return element(0) }
    var shown = (0..<min(count, Tensor.shownMax)).map(element)
    if count > Tensor.shownMax { shown.append("... (\(count) elements)") }
    return "\(dataType) \(shapeText(shape.map { Int64($0) })) [" + shown.joined(separator: ", ")
      + "]"
  }

  /// The shortest text that reads back as the same element.
  private func element(_ index: Int) -> String {
    let value = widenedElement(bytes.baseAddress.unsafelyUnwrapped, dataType, at: index)
    switch dataType {
    case .float32: return "\(Float(value))"
    case .float16, .bfloat16: return "\(Float(value))"
    case .float64: return "\(value)"
    default: return "\(Int(value))"
    }
  }

  /// All elements, widened to float64; what was saved is not repeated.
  func json(savedTo file: String?) -> JSON {
    var members: [(String, JSON)] = [
      ("data_type", .string(dataType.description)), ("shape", .list(shape.map { .int($0) })),
    ]
    if let file {
      members.append(("file", .string(file)))
    } else {
      members.append(("values", .list(doubles.map { .number($0) })))
    }
    return .object(members)
  }
}

extension StringProtocol {
  var trimmed: String {
    var text = Substring(self)
    while text.first?.isWhitespace ?? false { text = text.dropFirst() }
    while text.last?.isWhitespace ?? false { text = text.dropLast() }
    return String(text)
  }
}
