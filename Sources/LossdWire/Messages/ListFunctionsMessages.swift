import CLossdProto
import LossdTensor

/// Which functions are asked for.
public struct ListFunctionsRequest: Sendable, Equatable {
  /// This one alone; empty: all.
  public var name: String

  public init(name: String = "") { self.name = name }

  /// INVALID_ARGUMENT when it does not decode.
  public init(
    decoding bytes: UnsafeRawBufferPointer, in arena: MessageArena
  ) throws(StatusError) {
    name = textString(try arena.decode(lossd__v1__list_functions_request__init, bytes).pointee.name)
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__ListFunctionsRequest> {
    let raw = arena.make(lossd__v1__list_functions_request__init)
    raw.pointee.name = arena.text(name)
    return raw
  }
}

/// The functions that the server has.
public struct ListFunctionsResponse: Sendable, Equatable {
  public var functions: [FunctionDescription]

  public init(functions: [FunctionDescription]) { self.functions = functions }

  /// A copy out of the message; INVALID_ARGUMENT when it does not decode.
  public init(
    decoding bytes: UnsafeRawBufferPointer, in arena: MessageArena
  ) throws(StatusError) {
    let raw = try arena.decode(lossd__v1__list_functions_response__init, bytes).pointee
    functions = mapList(raw.functions, raw.n_functions, FunctionDescription.init)
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__ListFunctionsResponse> {
    let raw = arena.make(lossd__v1__list_functions_response__init)
    raw.pointee.n_functions = functions.count
    raw.pointee.functions = arena.list(functions.count) { functions[$0].build(arena) }
    return raw
  }
}

extension FunctionDescription {
  init(_ raw: Lossd__V1__Function) {
    self.init(
      name: textString(raw.name), kind: textString(raw.kind), summary: textString(raw.summary),
      inputs: mapList(raw.inputs, raw.n_inputs, Input.init),
      outputs: mapList(raw.outputs, raw.n_outputs, Output.init),
      attributes: mapList(raw.attributes, raw.n_attributes, Attribute.init),
      plugin: textString(raw.plugin), version: textString(raw.version),
      isOrderFree: raw.order_free != 0)
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__Function> {
    let raw = arena.make(lossd__v1__function__init)
    raw.pointee.name = arena.text(name)
    raw.pointee.kind = arena.text(kind)
    raw.pointee.summary = arena.text(summary)
    raw.pointee.n_inputs = inputs.count
    raw.pointee.inputs = arena.list(inputs.count) { inputs[$0].build(arena) }
    raw.pointee.n_outputs = outputs.count
    raw.pointee.outputs = arena.list(outputs.count) { outputs[$0].build(arena) }
    raw.pointee.n_attributes = attributes.count
    raw.pointee.attributes = arena.list(attributes.count) { attributes[$0].build(arena) }
    raw.pointee.plugin = arena.text(plugin)
    raw.pointee.version = arena.text(version)
    raw.pointee.order_free = isOrderFree ? 1 : 0
    return raw
  }
}

extension FunctionDescription.Input {
  init(_ raw: Lossd__V1__FunctionInput) {
    self.init(
      name: textString(raw.name), help: textString(raw.help), isRequired: raw.required != 0,
      isKept: raw.kept != 0, batching: .init(rawValue: textString(raw.batch)) ?? .whole,
      isClasses: raw.classes != 0)
    let types = UnsafeBufferPointer(start: raw.data_types, count: raw.n_data_types)
    dataTypes = types.compactMap { DataType(rawValue: UInt32(truncatingIfNeeded: $0.rawValue)) }
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__FunctionInput> {
    let raw = arena.make(lossd__v1__function_input__init)
    raw.pointee.name = arena.text(name)
    raw.pointee.help = arena.text(help)
    raw.pointee.required = isRequired ? 1 : 0
    raw.pointee.kept = isKept ? 1 : 0
    raw.pointee.batch = arena.text(batching.rawValue)
    raw.pointee.classes = isClasses ? 1 : 0
    let types = arena.array(of: Lossd__V1__DataType.self, count: dataTypes.count)
    for (index, type) in dataTypes.enumerated() {
      (types + index).initialize(to: Lossd__V1__DataType(type.rawValue))
    }
    raw.pointee.n_data_types = dataTypes.count
    raw.pointee.data_types = types
    return raw
  }
}

extension FunctionDescription.Output {
  init(_ raw: Lossd__V1__FunctionOutput) {
    self.init(
      name: textString(raw.name), help: textString(raw.help), isDefault: raw.default_ != 0,
      hasRows: raw.rows != 0)
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__FunctionOutput> {
    let raw = arena.make(lossd__v1__function_output__init)
    raw.pointee.name = arena.text(name)
    raw.pointee.help = arena.text(help)
    raw.pointee.default_ = isDefault ? 1 : 0
    raw.pointee.rows = hasRows ? 1 : 0
    return raw
  }
}

extension FunctionDescription.Attribute {
  init(_ raw: Lossd__V1__FunctionAttribute) {
    self.init(
      name: textString(raw.name), help: textString(raw.help), type: textString(raw.type),
      isRequired: raw.required != 0, defaultValue: AttributeValue(AttributeArgument(raw.default_)),
      minimum: AttributeValue(AttributeArgument(raw.minimum)),
      maximum: AttributeValue(AttributeArgument(raw.maximum)), role: textString(raw.role))
    for index in 0..<raw.n_choices { choices.append(textString(raw.choices?[index])) }
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__FunctionAttribute> {
    let raw = arena.make(lossd__v1__function_attribute__init)
    raw.pointee.name = arena.text(name)
    raw.pointee.help = arena.text(help)
    raw.pointee.type = arena.text(type)
    raw.pointee.required = isRequired ? 1 : 0
    raw.pointee.default_ = defaultValue?.build(arena)
    raw.pointee.minimum = minimum?.build(arena)
    raw.pointee.maximum = maximum?.build(arena)
    raw.pointee.role = arena.text(role)
    raw.pointee.n_choices = choices.count
    raw.pointee.choices = arena.list(choices.count) { arena.text(choices[$0]) }
    return raw
  }
}
