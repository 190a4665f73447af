import LossdTensor
import LossdWire
import Testing

@testable import LossdClient

@Suite struct SummaryRuleTests {
  /// A function whose reduction is an attribute of this name.
  private func function(
    _ attribute: String?, default value: AttributeValue? = .string("mean"),
    role: String = "reduction"
  ) -> FunctionDescription {
    FunctionDescription(
      name: "f", kind: "loss",
      attributes: attribute.map {
        [FunctionDescription.Attribute(name: $0, type: "string", defaultValue: value, role: role)]
      } ?? [])
  }

  private func part(
    _ batches: UInt64, _ values: [String: Double], _ state: [String: Double]
  ) -> SummaryMessage {
    SummaryMessage(batches: batches, rows: 3 * batches, values: values, state: state)
  }

  private func total(_ rule: SummaryRule, _ parts: [SummaryMessage]) -> SummaryMessage {
    var carried = parts[0]
    for part in parts[1...].dropLast() { carried = rule.added(carried, part) }
    guard parts.count > 1, let last = parts.last else { return carried }
    return rule.value(rule.added(carried, last), last: last)
  }

  private var parts: [SummaryMessage] {
    [
      part(2, ["loss": 2.5], ["loss_sum": 10, "weight_sum": 4]),
      part(1, ["loss": 0.5], ["loss_sum": 1, "weight_sum": 2]),
      part(3, ["loss": 2], ["loss_sum": 4, "weight_sum": 2]),
    ]
  }

  @Test("a mean is that of all sums, by the attribute's default or as it is given, of any name")
  func means() {
    for (name, value) in [("reduction", "mean"), ("how", "mean"), ("how", "sum")] {
      let rule = SummaryRule(function(name, default: .string(value)), [name: .string("mean")])
      let total = total(rule, parts)
      #expect(total.batches == 6 && total.rows == 18)
      #expect(total.values == ["loss": 15.0 / 8])
      #expect(total.state == ["loss_sum": 15, "weight_sum": 8])
    }
    #expect(total(SummaryRule(function("how"), [:]), parts).values == ["loss": 15.0 / 8])
  }

  @Test("a sum is the sum, by default too, and whatever the value's name is")
  func sums() {
    #expect(
      total(SummaryRule(function("reduction"), ["reduction": .string("sum")]), parts).values
        == ["loss": 15])
    let rule = SummaryRule(function("reduction", default: .string("sum")), [:])
    #expect(total(rule, parts).values == ["loss": 15])
    let named = parts.map { part($0.batches, ["penalty": 1], $0.state) }
    #expect(total(rule, named).values == ["penalty": 15])
  }

  @Test("sums of a function that declares no reduction are not added, whatever their names are")
  func unknown() {
    for description in [
      nil, function(nil), function("reduction", role: ""), function("dim", role: "dimension"),
    ] {
      let rule = SummaryRule(description, ["reduction": .string("sum")])
      #expect(total(rule, parts) == part(6, [:], [:]))
      // One daemon's own is right as it is, and so is that of the only one that had a batch.
      #expect(total(rule, [parts[0]]) == parts[0])
      let nothing = part(0, ["loss": .nan], ["loss_sum": 0, "weight_sum": 0])
      #expect(total(rule, [nothing, parts[0]]) == parts[0])
      #expect(total(rule, [parts[0], nothing]) == parts[0])
    }
  }

  @Test("sums that a declared reduction does not have are left out, and a value that is not there")
  func others() {
    let rule = SummaryRule(function("reduction"), ["reduction": .string("none")])
    #expect(total(rule, parts).values == [:])
    #expect(total(rule, parts).state == ["loss_sum": 15, "weight_sum": 8])
    let mean = SummaryRule(function("reduction"), [:])
    let more = parts.map { part($0.batches, $0.values, $0.state.merging(["largest": 1]) { $1 }) }
    #expect(total(mean, more).state == ["loss_sum": 15, "weight_sum": 8])
    let silent = parts.map { part($0.batches, [:], $0.state) }
    #expect(total(mean, silent).values == [:])
    let two = parts.map { part($0.batches, ["loss": 1, "other": 2], $0.state) }
    #expect(total(mean, two).values == [:])
  }

  @Test("a mean over no weight is NaN, and one of a last part without a batch that of the others")
  func nothing() {
    let rule = SummaryRule(function("reduction"), [:])
    let weightless = part(1, ["loss": .nan], ["loss_sum": 0, "weight_sum": 0])
    #expect(total(rule, [weightless, weightless]).values["loss"]?.isNaN == true)
    let empty = part(0, ["loss": .nan], ["loss_sum": 0, "weight_sum": 0])
    #expect(total(rule, parts + [empty]).values == ["loss": 15.0 / 8])
  }

  private func expectAdded(_ part: SummaryMessage, to total: inout SummaryTotal) {
    let isAdded = total.add(part)
    #expect(isAdded, "\(part)")
  }

  @Test("counts that no number holds are the largest one, and no trap")
  func saturates() {
    let many = SummaryMessage(batches: .max, rows: .max - 1)
    let rule = SummaryRule(function("reduction"), [:])
    let total = rule.added(many, part(2, [:], [:]))
    #expect(total.batches == .max && total.rows == .max)
    var batches = SummaryTotal(nil, [:])
    for _ in 0..<2 { expectAdded(many, to: &batches) }
    #expect(batches.summary.batches == .max && batches.summary.rows == .max)
  }

  @Test("batches' sums are added in about twice float64's precision, and infinities stay")
  func compensates() {
    var total = SummaryTotal(function("reduction", default: .string("sum")), [:])
    for sum in [1e100, 1, -1e100, 1] {
      expectAdded(part(1, ["loss": sum], ["loss_sum": sum]), to: &total)
    }
    #expect(total.summary.values == ["loss": 2] && total.summary.batches == 4)
    expectAdded(part(1, ["loss": .infinity], ["loss_sum": .infinity]), to: &total)
    #expect(total.summary.values == ["loss": .infinity])
  }

  @Test("a batch whose value or sums are not what the reduction declares makes no total")
  func refuses() {
    let mean = function("reduction")
    let none = function(nil)
    let wrong: [(FunctionDescription, SummaryMessage)] = [
      (mean, part(1, ["loss": 3], ["loss_sum": 4, "weight_sum": 2])),
      (mean, part(1, ["loss": 2], ["loss_sum": 4, "weight_sum": 2, "biggest": 1])),
      (mean, part(1, ["loss": 2], ["loss_sum": 4])),
      (mean, part(1, [:], ["loss_sum": 4, "weight_sum": 2])),
      (mean, part(1, ["loss": .nan], ["loss_sum": 4, "weight_sum": 0])),
      (none, part(1, ["loss": 2], [:])), (none, part(1, [:], ["loss_sum": 4])),
    ]
    for (function, part) in wrong {
      var total = SummaryTotal(function, [:])
      let isAdded = total.add(part)
      #expect(!isAdded, "\(part)")
      #expect(total.summary.batches == 0)
    }
    var total = SummaryTotal(mean, [:])
    expectAdded(part(1, ["loss": .nan], ["loss_sum": 0, "weight_sum": 0]), to: &total)
    expectAdded(part(1, ["loss": 2], ["loss_sum": 4, "weight_sum": 2]), to: &total)
    #expect(total.summary.values == ["loss": 2])
  }
}
