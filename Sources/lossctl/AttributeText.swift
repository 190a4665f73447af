import LossdTensor
import LossdWire

/// `NAME=VALUE` arguments as attributes of the types that the function declares. `option` is what
/// they were given with, for complaints.
func attributeValues(
  _ arguments: [(name: String, value: String)], of description: FunctionDescription,
  option: String = "--attr"
) throws -> [String: AttributeValue] {
  var values: [String: AttributeValue] = [:]
  for (name, text) in arguments {
    func complaint(_ expected: String) -> Complaint {
      Complaint("\(option) \(name)=\(text): expected \(expected)", status: 64)
    }
    switch description.attributes.first(where: { $0.name == name })?.type {
    case "bool":
      guard let value = Bool(text) else { throw complaint("true or false") }
      values[name] = .bool(value)
    case "int":
      guard let value = Int64(text) else { throw complaint("a whole number") }
      values[name] = .int(value)
    case "float":
      guard let value = Double(text) else { throw complaint("a number") }
      values[name] = .float(value)
    // One that the function does not have is the evaluation's to refuse.
    default: values[name] = .string(text)
    }
  }
  return values
}

/// `NAME=VALUE` arguments of an option that may be repeated.
func namedArguments(
  _ arguments: [String], _ option: String
) throws -> [(name: String, value: String)] {
  try arguments.map { argument in
    let parts = argument.split(separator: "=", maxSplits: 1)
    guard parts.count == 2 else {
      throw Complaint("\(option) \(argument): expected NAME=VALUE", status: 64)
    }
    return (String(parts[0]), String(parts[1]))
  }
}
