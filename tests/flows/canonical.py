"""One business, told in the tables of three ERP systems, and what the canonical tables must then hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from decimal import Decimal
from random import Random
from typing import Any

COMPANY = "100"
KEYS = {
    "customer": ["company", "customer_id"],
    "material": ["company", "material_id"],
    "sales_order": ["company", "order_id"],
    "sales_order_line": ["company", "order_id", "line_id"],
    "purchase_order": ["company", "order_id"],
    "purchase_order_line": ["company", "order_id", "line_id"],
    "receipt": ["company", "order_id", "line_id"],
}
Rows = list[tuple[str, dict[str, Any]]]
_END_OF_TIME = datetime(2154, 12, 31, 23, 59, 59)


@dataclass(frozen=True)
class Posting:
    """Goods that came in, or went back."""

    number: int
    order: int
    line: int
    quantity: int
    on: date

    @property
    def sign(self) -> int:
        return -1 if self.quantity < 0 else 1


@dataclass
class Business:
    """Customers and materials by number; orders as (partner, date); lines as (material, quantity, price, cancelled).

    A line's number is its own in all orders, as in E-Business Suite.
    """

    customers: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    materials: dict[int, str] = field(default_factory=dict)
    sales: dict[int, tuple[int, date]] = field(default_factory=dict)
    sales_lines: dict[tuple[int, int], tuple[int, int, Decimal, bool]] = field(default_factory=dict)
    purchases: dict[int, tuple[int, date]] = field(default_factory=dict)
    purchase_lines: dict[tuple[int, int], tuple[int, int, Decimal, bool]] = field(default_factory=dict)
    postings: dict[int, Posting] = field(default_factory=dict)

    @classmethod
    def drawn(cls, random: Random) -> Business:
        """Some of everything; an order's lines may name a material that is not there."""
        one = cls()
        one.customers = {n: (f"Name {n}", random.choice(["DE", "TR", "US"]), f"City {n % 3}") for n in range(1, 9)}
        one.materials = {n: random.choice(["item", "service"]) for n in range(1, 7)}
        for orders, lines in ((one.sales, one.sales_lines), (one.purchases, one.purchase_lines)):
            for order in range(1000, 1020):
                orders[order] = (random.randint(1, 9), date(2026, 3, random.randint(1, 28)))
                lines |= {(order, order * 10 + n): one._line(random) for n in range(random.randint(1, 4))}
        for number, (order, line) in enumerate(random.choices(list(one.purchase_lines), k=40)):
            quantity = random.choice([5, 10, -2])
            one.postings[number] = Posting(number, order, line, quantity, date(2026, 4, random.randint(1, 28)))
        return one

    def changed(self, random: Random) -> Business:
        """The same a day later: moved customers, cancelled and deleted lines, corrected and deleted postings."""
        later = replace(self, **{name: dict(getattr(self, name)) for name in self.__dataclass_fields__})
        for number in random.sample(list(later.customers), 3):
            later.customers[number] = ("Renamed", "FR", "Paris")
        del later.customers[max(later.customers)], later.materials[max(later.materials)]
        for lines in (later.sales_lines, later.purchase_lines):
            for key in random.sample(list(lines), 8):
                material, quantity, price, _ = lines[key]
                lines[key] = (material, quantity + 1, price, True)
            del lines[random.choice(list(lines))]
        for number in random.sample(list(later.postings), 6):
            later.postings[number] = replace(later.postings[number], quantity=random.choice([7, -1]))
        del later.postings[random.choice(list(later.postings))]
        return later

    @staticmethod
    def _line(random: Random) -> tuple[int, int, Decimal, bool]:
        return random.randint(1, 7), random.randint(1, 20), Decimal(random.randint(1, 99999)) / 100, False

    # -- what must come out

    def truth(self) -> dict[str, set[tuple[Any, ...]]]:
        """Each canonical table's rows, their columns in the order of their names."""
        lines = {
            "sales_order_line": self.sales_lines,
            "purchase_order_line": self.purchase_lines,
        }
        tables: dict[str, Iterable[dict[str, Any]]] = {
            "customer": (
                {"customer_id": f"{n}", "name": name, "country": country, "city": city}
                for n, (name, country, city) in self.customers.items()
            ),
            "material": (
                {"material_id": f"{n}", "kind": kind, "base_unit": "PC"} for n, kind in self.materials.items()
            ),
            "sales_order": (_order(n, "customer_id", *order) for n, order in self.sales.items()),
            "purchase_order": (_order(n, "supplier_id", *order) for n, order in self.purchases.items()),
            "receipt": self._receipts(),
        }
        tables |= {name: (_line(*key, *line) for key, line in found.items()) for name, found in lines.items()}
        whole = {name: [{"company": COMPANY, **row} for row in rows] for name, rows in tables.items()}
        return {name: {tuple(row[column] for column in sorted(row)) for row in rows} for name, rows in whole.items()}

    def _receipts(self) -> Iterable[dict[str, Any]]:
        for order, line in {(one.order, one.line) for one in self.postings.values()} & set(self.purchase_lines):
            of_line = [one for one in self.postings.values() if (one.order, one.line) == (order, line)]
            yield {
                "order_id": f"{order}",
                "line_id": f"{line}",
                "received_quantity": Decimal(sum(one.quantity for one in of_line)),
                "receipts": len(of_line),
                "last_received_on": max(one.on for one in of_line),
            }

    # -- the three systems

    def sap(self) -> Rows:
        """As an SAP system has it."""
        rows: Rows = []
        for n, (name, country, city) in self.customers.items():
            rows.append(("kna1", {"KUNNR": f"{n}", "NAME1": name, "LAND1": country, "ORT01": city}))
        rows += [("mara", {"MATNR": f"{n}", "MTART": kind, "MEINS": "PC"}) for n, kind in self.materials.items()]
        for n, (partner, on) in self.sales.items():
            rows.append(("vbak", {"VBELN": f"{n}", "KUNNR": f"{partner}", "AUDAT": on, "WAERK": "EUR", "GBSTK": "A"}))
        for n, (partner, on) in self.purchases.items():
            rows.append(("ekko", {"EBELN": f"{n}", "LIFNR": f"{partner}", "BEDAT": on, "WAERS": "EUR", "LOEKZ": ""}))
        for (n, line), (material, quantity, price, gone) in self.sales_lines.items():
            row = {"VBELN": f"{n}", "POSNR": f"{line}", "MATNR": f"{material}", "KWMENG": Decimal(quantity)}
            rows.append(("vbap", {**row, "VRKME": "PC", "NETWR": quantity * price, "ABGRU": "01" if gone else ""}))
        for (n, line), (material, quantity, price, gone) in self.purchase_lines.items():
            row = {"EBELN": f"{n}", "EBELP": f"{line}", "MATNR": f"{material}", "MENGE": Decimal(quantity)}
            rows.append(("ekpo", {**row, "MEINS": "PC", "NETWR": quantity * price, "LOEKZ": "L" if gone else ""}))
        for one in self.postings.values():
            if (one.order, one.line) in self.purchase_lines:
                row = {"EBELN": f"{one.order}", "EBELP": f"{one.line}", "ZEKKN": "00", "GJAHR": "2026"}
                row |= {"BELNR": f"{one.number}", "BUZEI": "0001", "BUDAT": one.on, "MENGE": Decimal(abs(one.quantity))}
                rows.append(("ekbe", {**row, "VGABE": "1", "SHKZG": "S" if one.sign > 0 else "H"}))
                # the invoice for it, which is no receipt
                rows.append(("ekbe", {**row, "VGABE": "2", "SHKZG": "S"}))
        return [(table, {"MANDT": COMPANY, **row}) for table, row in rows]

    def dynamics(self) -> Rows:
        """As Dynamics has it."""
        rows: Rows = []
        for n, (name, country, city) in self.customers.items():
            rows.append(("custtable", {"ACCOUNTNUM": f"{n}", "PARTY": 100 + n}))
            rows.append(("dirpartytable", {"RECID": 100 + n, "NAME": name, "PRIMARYADDRESSLOCATION": 200 + n}))
            address = {"LOCATION": 200 + n, "COUNTRYREGIONID": country, "CITY": city}
            rows.append(("logisticspostaladdress", {"RECID": 300 + n, **address, "VALIDTO": _END_OF_TIME}))
            former = {**address, "CITY": "Zz", "VALIDTO": datetime(2025, 1, 1)}
            rows.append(("logisticspostaladdress", {"RECID": 400 + n, **former}))
        for n, kind in self.materials.items():
            rows.append(("inventtable", {"ITEMID": f"{n}", "ITEMTYPE": 0 if kind == "item" else 2}))
            rows += [
                ("inventtablemodule", {"ITEMID": f"{n}", "MODULETYPE": module, "UNITID": unit})
                for module, unit in ((0, "PC"), (1, "BOX"))
            ]
        for n, (partner, on) in self.sales.items():
            row = {"SALESID": f"{n}", "CUSTACCOUNT": f"{partner}", "CREATEDDATETIME": datetime.combine(on, time(9))}
            rows.append(("salestable", {**row, "CURRENCYCODE": "EUR", "SALESSTATUS": 1}))
        for n, (partner, on) in self.purchases.items():
            row = {"PURCHID": f"{n}", "ORDERACCOUNT": f"{partner}", "CREATEDDATETIME": datetime.combine(on, time(9))}
            rows.append(("purchtable", {**row, "CURRENCYCODE": "EUR", "PURCHSTATUS": 1}))
        for kind, lines in (("SALES", self.sales_lines), ("PURCH", self.purchase_lines)):
            for (n, line), (material, quantity, price, gone) in lines.items():
                row = {f"{kind}ID": f"{n}", "INVENTTRANSID": f"{line}", "ITEMID": f"{material}"}
                row |= {f"{kind}QTY": Decimal(quantity), f"{kind}UNIT": "PC", "LINEAMOUNT": quantity * price}
                rows.append((f"{kind.lower()}line", {**row, f"{kind}STATUS": 4 if gone else 1}))
        for one in self.postings.values():
            if (one.order, one.line) in self.purchase_lines:
                row = {"RECID": one.number, "ORIGPURCHID": f"{one.order}", "INVENTTRANSID": f"{one.line}"}
                at = datetime.combine(one.on, time(15))
                rows.append(("vendpackingsliptrans", {**row, "QTY": Decimal(one.quantity), "DELIVERYDATE": at}))
        everywhere = ("dirpartytable", "logisticspostaladdress")
        return [(table, row if table in everywhere else {"DATAAREAID": COMPANY, **row}) for table, row in rows]

    def oracle_ebs(self) -> Rows:
        """As E-Business Suite has it."""
        rows: Rows = [
            ("financials_system_params_all", {"ORG_ID": COMPANY, "INVENTORY_ORGANIZATION_ID": COMPANY}),
        ]
        for n, (name, country, city) in self.customers.items():
            sites = [COMPANY, COMPANY, None]  # two in the unit, and one that belongs to none
            rows += [
                ("hz_cust_acct_sites_all", {"CUST_ACCT_SITE_ID": 10 * n + at, "ORG_ID": org, "CUST_ACCOUNT_ID": f"{n}"})
                for at, org in enumerate(sites)
            ]
            rows.append(("hz_cust_accounts", {"CUST_ACCOUNT_ID": f"{n}", "PARTY_ID": 100 + n}))
            rows.append(("hz_parties", {"PARTY_ID": 100 + n, "PARTY_NAME": name, "COUNTRY": country, "CITY": city}))
        for n, kind in self.materials.items():
            row = {"ORGANIZATION_ID": COMPANY, "INVENTORY_ITEM_ID": f"{n}", "ITEM_TYPE": kind}
            rows.append(("mtl_system_items_b", {**row, "PRIMARY_UOM_CODE": "PC"}))
        for n, (partner, on) in self.sales.items():
            row = {"ORG_ID": COMPANY, "HEADER_ID": f"{n}", "SOLD_TO_ORG_ID": f"{partner}", "FLOW_STATUS_CODE": "BOOKED"}
            at = datetime.combine(on, time(9))
            rows.append(("oe_order_headers_all", {**row, "ORDERED_DATE": at, "TRANSACTIONAL_CURR_CODE": "EUR"}))
        for n, (partner, on) in self.purchases.items():
            row = {"ORG_ID": COMPANY, "PO_HEADER_ID": f"{n}", "VENDOR_ID": f"{partner}", "CURRENCY_CODE": "EUR"}
            at = datetime.combine(on, time(9))
            rows.append(("po_headers_all", {**row, "CREATION_DATE": at, "CLOSED_CODE": "OPEN", "CANCEL_FLAG": None}))
        for (n, line), (material, quantity, price, gone) in self.sales_lines.items():
            row = {"ORG_ID": COMPANY, "HEADER_ID": f"{n}", "LINE_ID": f"{line}", "SHIP_FROM_ORG_ID": COMPANY}
            row |= {
                "INVENTORY_ITEM_ID": f"{material}",
                "ORDERED_QUANTITY": Decimal(quantity),
                "UNIT_SELLING_PRICE": price,
            }
            rows.append(
                ("oe_order_lines_all", {**row, "ORDER_QUANTITY_UOM": "PC", "CANCELLED_FLAG": "Y" if gone else None})
            )
        for (n, line), (material, quantity, price, gone) in self.purchase_lines.items():
            row = {"ORG_ID": COMPANY, "PO_HEADER_ID": f"{n}", "PO_LINE_ID": f"{line}", "ITEM_ID": f"{material}"}
            row |= {"QUANTITY": Decimal(quantity), "UNIT_MEAS_LOOKUP_CODE": "PC", "UNIT_PRICE": price}
            rows.append(("po_lines_all", {**row, "CANCEL_FLAG": "Y" if gone else "N"}))
        for one in self.postings.values():
            row = {"TRANSACTION_ID": one.number, "PO_LINE_ID": f"{one.line}"}
            row |= {"TRANSACTION_DATE": datetime.combine(one.on, time(15)), "QUANTITY": Decimal(abs(one.quantity))}
            rows.append(
                ("rcv_transactions", {**row, "TRANSACTION_TYPE": "RECEIVE" if one.sign > 0 else "RETURN TO VENDOR"})
            )
            rows.append(
                ("rcv_transactions", {**row, "TRANSACTION_ID": 500 + one.number, "TRANSACTION_TYPE": "DELIVER"})
            )
        return rows


SYSTEMS: dict[str, Callable[[Business], Rows]] = {
    "sap": Business.sap,
    "dynamics": Business.dynamics,
    "oracle_ebs": Business.oracle_ebs,
}


def _order(number: int, partner_name: str, partner: int, on: date) -> dict[str, Any]:
    return {"order_id": f"{number}", partner_name: f"{partner}", "ordered_on": on, "currency": "EUR", "status": "open"}


def _line(order: int, line: int, material: int, quantity: int, price: Decimal, cancelled: bool) -> dict[str, Any]:
    names = {"order_id": f"{order}", "line_id": f"{line}", "material_company": COMPANY, "material_id": f"{material}"}
    return {
        **names, "quantity": Decimal(quantity), "unit": "PC", "net_amount": quantity * price, "is_cancelled": cancelled,
    }  # fmt: skip
