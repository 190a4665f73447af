import LossdTensor

/// JSON to be printed. Numbers that JSON cannot hold are the strings `NaN`, `Infinity`,
/// `-Infinity`.
enum JSON {
  case string(String)
  case int(Int)
  case unsigned(UInt64)
  case number(Double)
  case bool(Bool)
  case list([JSON])
  /// In this order.
  case object([(String, JSON)])

  var text: String {
    switch self {
    case .string(let text): JSON.quoted(text)
    case .int(let value): String(value)
    case .unsigned(let value): String(value)
    case .bool(let value): value ? "true" : "false"
    case .number(let value):
      value.isNaN
        ? "\"NaN\"" : value.isInfinite ? (value < 0 ? "\"-Infinity\"" : "\"Infinity\"") : "\(value)"
    case .list(let items): "[" + items.map(\.text).joined(separator: ", ") + "]"
    case .object(let members):
      "{" + members.map { JSON.quoted($0.0) + ": " + $0.1.text }.joined(separator: ", ") + "}"
    }
  }

  private static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\t": result += "\\t"
      default:
        // C0, and, though JSON has them as they are, what a terminal obeys or does not show.
        if scalar.value < 0x20 || shownText(String(scalar)) != String(scalar) {
          for unit in scalar.utf16 {
            let hex = String(unit, radix: 16)
            result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
          }
        } else {
          result.unicodeScalars.append(scalar)
        }
      }
    }
    return result + "\""
  }
}
